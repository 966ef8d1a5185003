"""What is lost where channels go and nothing is trained again, beside what others lose."""
