"""Training: photos in, weights out. Nothing else imports it."""
