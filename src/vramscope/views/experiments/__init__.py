"""What experiments found, as figures, JSON, a page for the terminal and a summary to read. They compute nothing."""
