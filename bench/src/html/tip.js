(function () {
  const tip = document.getElementById("tip");
  let cross = null;
  function hide() {
    tip.style.display = "none";
    if (cross) cross.style.visibility = "hidden";
    cross = null;
  }
  document.addEventListener("pointermove", function (event) {
    const hit = event.target.closest ? event.target.closest(".hit") : null;
    if (!hit) return hide();
    if (cross) cross.style.visibility = "hidden";
    cross = hit.ownerSVGElement.querySelector(".cross");
    cross.setAttribute("x1", hit.dataset.x);
    cross.setAttribute("x2", hit.dataset.x);
    cross.style.visibility = "visible";
    tip.textContent = hit.dataset.tip;
    tip.style.display = "block";
    const left = event.clientX + 16 + tip.offsetWidth > innerWidth ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4)) + "px";
  });
  document.addEventListener("scroll", hide, true);
})();
