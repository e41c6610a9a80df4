"""A finished adapter as other programs take it: one merged model, and folders for other servers."""
