"""The contract over HTTP.  Rules of trade never stand here."""
