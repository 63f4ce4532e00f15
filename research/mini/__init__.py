"""Mini's training from nothing: pictures of scenes, an encoder that sees, answers, duels."""
