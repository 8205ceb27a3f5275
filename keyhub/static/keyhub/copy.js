// Buttons that put a text into the clipboard: <button class="keyhub-copy-button" data-copy="…" data-copied="Copied">.
"use strict";

async function copy(text) {
    if (navigator.clipboard) {
        await navigator.clipboard.writeText(text);
        return;
    }
    // Without HTTPS there is no clipboard but for what is selected.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
}

document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) {
        return;
    }
    event.preventDefault();
    await copy(button.dataset.copy);
    let said = document.getElementById("keyhub-said");
    if (!said) {
        said = document.createElement("div");
        said.id = "keyhub-said";
        said.className = "keyhub-hidden";
        said.setAttribute("role", "status");
        document.body.append(said);
    }
    said.textContent = button.dataset.copied;
    const before = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = before; }, 1500);
});
