"""The projects service's database, revision by revision."""
