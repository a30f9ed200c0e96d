"""One module for each revision of the state's tables; `cdcflow.state.migrate.REVISIONS` lists them in order."""
