"""`make demo`: start the service, send recordings to every bundled model, print what came back, stop."""
