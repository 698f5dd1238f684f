"""The experiments service's database, revision by revision."""
