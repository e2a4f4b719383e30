"""Who may see what: people, sessions, invitations, rights, tokens for machines, shares and the audit log."""
