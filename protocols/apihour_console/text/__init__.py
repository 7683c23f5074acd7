"""What a terminal shows: tables, pages, line editing; knows no command."""
