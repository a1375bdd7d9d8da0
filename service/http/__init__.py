"""The service over HTTP: routes, bodies, keys, problem documents, and the server around them."""
