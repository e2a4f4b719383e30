"""``headroom demo``: an organisation that does not exist, one room that is really counted, and the portal over both."""
