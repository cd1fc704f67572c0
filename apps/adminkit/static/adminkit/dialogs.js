// Buttons that open a dialog (data-opens="id"), and forms that can be submitted only once.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.opens);
    dialog.showModal();
    (dialog.querySelector("[autofocus], textarea, input:not([type=hidden])") || dialog.querySelector("button")).focus();
  }
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog").close();
  if (event.target instanceof HTMLDialogElement) event.target.close();
});
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  if (event.target.dataset.sent) {
    event.preventDefault();
    return;
  }
  event.target.dataset.sent = "1";
  setTimeout(() => { delete event.target.dataset.sent; }, 5000);
});
