"""The page: the service for people, rendered here, without a build step and without JavaScript.

Only live progress needs JavaScript; without it a running job's page reloads itself.
"""
