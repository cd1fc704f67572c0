"""The REST API: shapes and status codes. Calls services, holds no rules."""
