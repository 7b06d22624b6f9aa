"""One user's rows: found and removed from what people wrote, named in what was made of them."""
