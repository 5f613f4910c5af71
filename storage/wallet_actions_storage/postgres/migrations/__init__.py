"""The schema, as numbered SQL files: `0001_initial.sql` takes an empty database to version 1, and so on."""
