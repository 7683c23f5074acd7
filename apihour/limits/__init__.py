"""What a bind asks of its connections, where it asks anything; may import from jobs down."""
