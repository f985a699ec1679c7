"""Rows of chat data: chats, their files, shuffles, and whole words."""
