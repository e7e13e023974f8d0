"""What a person sees of a witness, looked at as a person does: commands, HTTP, and the
page in a real browser."""
