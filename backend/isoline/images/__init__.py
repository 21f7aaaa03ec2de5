"""Names to images: roots, archives, uploads, file URIs."""
