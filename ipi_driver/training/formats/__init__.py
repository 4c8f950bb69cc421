"""Forms of labelled data, one module each; a form is recognized by the content of a file, not by its name."""
