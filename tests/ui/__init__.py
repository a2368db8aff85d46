"""The pages in a real browser: Chromium through Playwright, against the application over a test environment."""
