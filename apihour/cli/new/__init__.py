"""``apihour new``: an application from the template in ``apihour/starter``."""
