// The theme writes expressions into attributes. Under our policy Alpine interprets them without globals or functions;
// those that the theme needs are registered here, before Alpine starts.
document.addEventListener("alpine:init", () => {
  Alpine.data("theme", () => {
    const theirs = theme("auto");
    document.documentElement.dataset.theme = "loaded";
    return { ...theirs, window: { location: { pathname: location.pathname, search: location.search } } };
  });
  Alpine.data("searchForm", searchForm);
  Alpine.data("page", () => ({
    activeTab: "",
    sidebarMobileOpen: false,
    sidebarDesktopOpen: localStorage.getItem("sidebarDesktopOpen") !== "0",
    init() {
      this.activeTab = getCurrentTab() || this.$el.dataset.firstTab || "";
    },
    toggleSidebar() {
      this.sidebarDesktopOpen = !this.sidebarDesktopOpen;
      localStorage.setItem("sidebarDesktopOpen", this.sidebarDesktopOpen ? "1" : "0");
    },
  }));
});
