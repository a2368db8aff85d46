// Runs before the page is drawn, so that it does not flash in the other theme.
try {
  const theme = localStorage.getItem("flowcraft-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be switched off: the preference of the system counts then.
}
