"""Small helpers without a home of their own: atomic files, threads, progress, JSON."""
