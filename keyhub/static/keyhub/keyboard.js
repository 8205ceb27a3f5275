// What the theme offers to a mouse alone is made to work by keyboard, and to have a name for who does not see its icon.
// Nothing here knows a page: it looks for Alpine's click handlers, for icons and for parts that are shown and hidden.
"use strict";

(() => {
    const NATIVE = "a[href], button, input, select, textarea, summary, label";
    const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']";
    // Parts that open over the page, and the backdrop that closes one of them.
    const SHEETS = "#changelist-filter, #nav-sidebar, #nav-sidebar nav nav, nav[x-anchor\\.bottom-end\\.offset\\.4]";
    const BACKDROP = "changelist-filter-close";

    const words = () => document.querySelector("meta[name=keyhub-words]")?.dataset ?? {};
    const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
    const textWithoutIcons = (element) => {
        const copy = element.cloneNode(true);
        copy.querySelectorAll(".material-symbols-outlined").forEach((icon) => icon.remove());
        return copy.matches(".material-symbols-outlined") ? "" : copy.textContent.trim();
    };

    // Controls

    function makeOperable(element) {
        if (element.matches(NATIVE) || element.id === BACKDROP || element.hasAttribute("tabindex")) {
            return;
        }
        element.tabIndex = 0;
        element.setAttribute("role", "button");
    }

    function nameByIcon(icon) {
        const control = icon.closest("a, button, label, [role=button]");
        if (!control) {
            icon.setAttribute("aria-hidden", "true");
            return;
        }
        if (control !== icon) {
            icon.setAttribute("aria-hidden", "true");
        }
        if (control.title || control.ariaLabel || textWithoutIcons(control)) {
            return;
        }
        const name = words()[icon.textContent.trim()];
        if (name) {
            control.setAttribute("aria-label", name);
        }
    }

    // Cells of a form's rows tell their column by CSS alone.
    function nameByColumn(cell) {
        for (const field of cell.querySelectorAll("input:not([type=hidden]), select, textarea")) {
            if (!field.labels.length && !field.ariaLabel) {
                const part = field.placeholder ? ` – ${field.placeholder}` : "";
                field.setAttribute("aria-label", cell.dataset.label + part);
            }
        }
    }

    // Select2 calls a box by its value: an empty one has no name at all. Its roles are those of ARIA 1.0.
    function nameOfBox(box) {
        const select = box.closest(".select2")?.previousElementSibling;
        const name = select?.ariaLabel || select?.labels?.[0]?.textContent.trim();
        const value = box.querySelector(".select2-selection__rendered");
        if (box.hasAttribute("aria-owns")) {
            box.setAttribute("aria-controls", box.getAttribute("aria-owns"));
        }
        if (name && value) {
            value.removeAttribute("role");
            value.removeAttribute("aria-readonly");
            box.removeAttribute("aria-labelledby");
            box.setAttribute("aria-label", value.title ? `${name}: ${value.title}` : name);
        }
    }

    function mend() {
        document.querySelectorAll("[x-on\\:click]").forEach(makeOperable);
        document.querySelectorAll(".material-symbols-outlined").forEach(nameByIcon);
        document.querySelectorAll("td[data-label]").forEach(nameByColumn);
        document.querySelectorAll(".select2-selection[role=combobox]").forEach(nameOfBox);
        document.querySelectorAll(".select2-search__field").forEach((field) => {
            field.setAttribute("aria-label", words().search);
        });
        document.getElementById("main")?.setAttribute("role", "main");
        document.getElementById("content")?.setAttribute("tabindex", "-1");
        followSheets();
    }

    document.addEventListener("keydown", (event) => {
        const control = event.target;
        if (control.matches("[role=button]:not(button)") && (event.key === "Enter" || event.key === " ")) {
            event.preventDefault();
            control.click();
        }
    });

    // Sheets: the focus goes in when one opens, stays inside while Tab is pressed, and goes back when it closes.

    const open = []; // the innermost last: {sheet, opener}
    let lastFocused = null;

    function followSheets() {
        for (const sheet of document.querySelectorAll(SHEETS)) {
            const known = open.findIndex((each) => each.sheet === sheet);
            if (isOver(sheet) && known < 0) {
                open.push({ sheet, opener: lastFocused });
                lastFocused?.setAttribute("aria-expanded", "true");
                if (sheet.id === "changelist-filter") {
                    sheet.setAttribute("role", "dialog");
                    sheet.setAttribute("aria-modal", "true");
                    sheet.setAttribute("aria-label", words().filters);
                }
                if (!sheet.contains(document.activeElement)) {
                    inside(sheet)[0]?.focus();
                }
            } else if (!isOver(sheet) && known >= 0) {
                const [{ opener }] = open.splice(known, 1);
                opener?.setAttribute("aria-expanded", "false");
                if (opener?.isConnected && (sheet.contains(document.activeElement) || !isFocusSomewhere())) {
                    opener.focus();
                }
            }
        }
    }

    // The menu stands beside the page on a wide screen, and over it on a narrow one.
    const isOver = (sheet) =>
        isShown(sheet) && (sheet.id !== "nav-sidebar" || Alpine.$data(document.body).sidebarMobileOpen);
    const inside = (sheet) => [...sheet.querySelectorAll(FOCUSABLE)].filter(isShown);
    const isFocusSomewhere = () => document.activeElement !== document.body && isShown(document.activeElement);

    document.addEventListener("focusin", (event) => {
        if (!open.some(({ sheet }) => sheet.contains(event.target))) {
            lastFocused = event.target;
        } else if (event.target.matches("[role=button]")) {
            lastFocused = event.target; // the user's menu opens from within the menu
        }
    });

    document.addEventListener("keydown", (event) => {
        const { sheet, opener } = open.at(-1) ?? {};
        if (!sheet) {
            return;
        }
        if (event.key === "Escape" && sheet.id === "nav-sidebar") {
            Alpine.$data(document.body).sidebarMobileOpen = false;
        } else if (event.key === "Escape" && sheet.matches("nav")) {
            event.stopPropagation();
            opener?.click();
        } else if (event.key === "Tab") {
            const fields = inside(sheet);
            const edge = event.shiftKey ? fields[0] : fields.at(-1);
            if (document.activeElement === edge || !sheet.contains(document.activeElement)) {
                event.preventDefault();
                (event.shiftKey ? fields.at(-1) : fields[0])?.focus();
            }
        }
    }, true);

    // Pages change by Alpine, htmx, Select2 and Django's own scripts.

    let isDue = false;
    function mendSoon() {
        if (!isDue) {
            isDue = true;
            requestAnimationFrame(() => {
                isDue = false;
                mend();
            });
        }
    }

    document.addEventListener("alpine:initialized", mend);
    document.addEventListener("DOMContentLoaded", () => {
        new MutationObserver(mendSoon).observe(document.body, {
            attributes: true, attributeFilter: ["class", "style", "title"], childList: true, subtree: true,
        });
    });
})();
