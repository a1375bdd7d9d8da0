"""The LookWhen network and its arithmetic: selector, extractor, classifier, selection, cost."""
