"""quoit's models as the objects that other libraries expect; each module imports its library by itself."""
