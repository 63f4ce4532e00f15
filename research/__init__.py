"""What uses the library to make and to study its models; not part of the package."""
