-- Events that were accepted before a visitor's deletion was asked for may come after it was done: from a node that was cut
-- off from PostgreSQL. It is then done again, for which its row tells for two weeks more whose it is.
ALTER TABLE erasures ADD COLUMN again boolean NOT NULL DEFAULT false;  -- such events came since the deleting began
