"""What a job is asked, what it says, and what is found: plain types that everybody shares."""
