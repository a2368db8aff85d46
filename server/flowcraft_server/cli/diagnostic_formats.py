"""The forms in which diagnostics are printed; a module of its own, as commands are set up without loading what prints them."""

FORMATS = ("text", "json", "github", "sarif")
