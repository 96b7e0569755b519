document.getElementById("status").textContent = "";
