"""The REST API: shapes and status codes. Calls services, contains no rules."""
