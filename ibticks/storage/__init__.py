"""Files and folders of a store: layout, writing, sealing, reading, recovery, compression."""
