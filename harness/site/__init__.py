"""The web page: leaderboards as one folder of static files that asks nothing of any server."""
