//! The real `docker-registry` with TLS, passwords, tokens, and as a mirror.
