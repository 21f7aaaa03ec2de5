"""HTTP: routes, access control and the WSGI server."""
