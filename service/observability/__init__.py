"""What watches a service, as code; `python -m service.observability` writes the dashboard and the alert rules."""
