"""The store on MongoDB, for an organisation with more than one machine."""

from analytics.store.mongodb.store import MongoStore

__all__ = ["MongoStore"]
