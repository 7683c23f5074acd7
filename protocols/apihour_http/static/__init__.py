"""Files of a directory as answers: found safely, told by validators, sent in ranges."""
