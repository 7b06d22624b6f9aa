"""All that is known of Google's wire format."""
