/**
 * The border between two pictures that lie on top of each other; a pointer or the arrow keys move it.
 *
 * border: the element with role="slider"; handle: where a press moves the border, by default on the border itself;
 * span(): left and right end of its way, in CSS pixels of the window; draw(at): shows the border at 0..1 of its way.
 * Returns a function that draws it again where it stands.
 */
function slider({border, handle = border, span, draw}) {
  let at = 0.5;

  function move(to) {
    at = Math.min(1, Math.max(0, to));
    border.setAttribute("aria-valuenow", String(Math.round(100 * at)));
    draw(at);
  }

  function follow(event) {
    const [left, right] = span();
    move((event.clientX - left) / Math.max(1, right - left));
  }

  handle.addEventListener("pointerdown", event => {
    if (event.button > 0) return;
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();  // what lies below does not move along
    follow(event);
  });
  handle.addEventListener("pointermove", event => {
    if (handle.hasPointerCapture(event.pointerId)) follow(event);
  });

  border.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
    if (step) move(at + step * (event.shiftKey ? 0.1 : 0.02));
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return () => move(at);
}
