"""What exists: servers, routes and keys, in files that are replaced atomically and watched."""
