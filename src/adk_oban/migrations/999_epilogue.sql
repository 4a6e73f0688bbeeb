SELECT set_config('search_path', current_setting('adk_oban.search_path'), true);
