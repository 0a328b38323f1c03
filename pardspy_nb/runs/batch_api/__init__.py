"""The provider's batch API."""
