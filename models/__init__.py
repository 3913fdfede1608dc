"""How the built-in classifier is made. Not part of the installed package: serving needs only what comes out of it."""
