"""HTTP: routes, access, and the WSGI server."""
