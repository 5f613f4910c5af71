"""The sides of a measurement, each a module that runs by itself and ends with one line of JSON."""
