"""The LookWhen network and its arithmetic: selector, extractor, classifier, selection, cost."""

from startup.command import begin_module

begin_module(__name__, "train")
