"""Rows of chat data: chats, their files, templates, shuffles, and whole words."""
